"""The page that a study ends with: sections, pictures, and the script beside them."""
