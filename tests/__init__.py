"""The tests of magpie."""
