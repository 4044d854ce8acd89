"""The model in other people's programs: an HTTP server that speaks OpenAI's API."""
