"""What a model is: `config.json` of either layout, read into frozen dataclasses."""
