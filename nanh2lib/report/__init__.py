"""Tables, figures, views of crystals, and the machinery of the book."""
