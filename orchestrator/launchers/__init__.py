"""Launch: workers through an engine that is there; no scheduler of our own."""
