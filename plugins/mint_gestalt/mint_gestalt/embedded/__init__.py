"""The models that come with mint-gestalt, and the scripts that built them."""
