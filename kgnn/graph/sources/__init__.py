"""One file a kind of knowledge; each is a function: a path or AnnData in, a `KnowledgeGraph` out."""
