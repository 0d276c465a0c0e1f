"""Models behind one small interface: Anthropic and OpenAI through their official SDKs, chosen by model name."""
