"""Layers and a remote in a trial: another machine's programs are read, and what makes no sense is refused."""

import pytest
from pydantic import ValidationError

from jaxcache.lab.running.execute import persistent_cache
from jaxcache.lab.trial import Persistent


def test_a_fresh_directory_reads_layers_and_a_remote(tmp_path):
    pytest.importorskip("obstore")
    (tmp_path / "store").mkdir(mode=0o700)
    remote = (tmp_path / "store").as_uri()
    with persistent_cache(Persistent(mode="fresh", remote=remote), tmp_path / "one") as one:
        assert one.get("jit_f-1") is None
        one.put("jit_f-1", b"value", 1.0)
    (tmp_path / "store").rename(tmp_path / "kept")
    layered = Persistent.model_validate({"mode": "fresh", "layers": [str(tmp_path / "one" / "programs")]})
    with persistent_cache(layered, tmp_path / "two") as two:
        assert (two.get("jit_f-1"), two.process_counts().layer_hits) == (b"value", 1)
    (tmp_path / "kept").rename(tmp_path / "store")
    with persistent_cache(Persistent(mode="fresh", remote=remote), tmp_path / "three") as three:
        assert (three.get("jit_f-1"), three.process_counts().remote_hits) == (b"value", 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "fresh", "remote": "ftp://x"}, "persistent.remote must be an address such as s3://bucket/prefix"),
        ({"mode": "off", "layers": ["/x"]}, "persistent.layers and persistent.remote go with persistent=fresh"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_trial_starts(settings, message):
    with pytest.raises(ValidationError, match=message):
        Persistent.model_validate(settings)
