"""Which keys a query would attend to: indexes over a corpus, searched in the proxy's own space."""
