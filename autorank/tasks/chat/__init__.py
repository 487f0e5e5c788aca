"""Conversations: the forms in which they are stored, and a chat template's text with the turns of the assistant."""
