"""The stream shell: delivery, positions and durability. It holds no domain nouns."""
