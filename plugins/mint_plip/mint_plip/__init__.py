"""The tissue-type task and the PLIP teacher."""
