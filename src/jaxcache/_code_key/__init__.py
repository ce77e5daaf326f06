"""Keys of programs made without tracing: from the code of a function, all that it reaches, and the call."""
