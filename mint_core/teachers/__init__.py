"""The teachers that mint-core itself brings; they need no training data of their own."""
