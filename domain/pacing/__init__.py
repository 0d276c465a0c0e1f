"""How often models are called while their providers limit us or are down, shared by all processes of Rota."""
