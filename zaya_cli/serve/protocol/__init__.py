"""OpenAI's protocol, with the fields of vLLM and llama.cpp: from bodies to requests, from events to answers."""
