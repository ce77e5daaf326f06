// A Worker for pages that were opened from disk, where browsers start none: its script runs in a hidden frame.
// MkDocs' search asks for it by the name IFrameWorker; the theme would fetch another one from elsewhere.
"use strict";
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      this.inside = frame.contentWindow;
      const load = (source) =>
        new Promise((loaded, failed) => {
          const script = this.inside.document.createElement("script");
          Object.assign(script, { src: source, onload: loaded, onerror: failed });
          this.inside.document.documentElement.append(script);
        });
      this.inside.postMessage = (data) => this.answer(data);
      this.inside.importScripts = (...sources) => sources.reduce((earlier, each) => earlier.then(() => load(each)), Promise.resolve());
      this.isReady = load(new URL(url, document.baseURI).href);
    }
    answer(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    }
    postMessage(data) {
      this.isReady.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {}
  };
  window.Worker = window.IFrameWorker;
}
