"""Results for people: words, figures, one page, and the terminal."""
