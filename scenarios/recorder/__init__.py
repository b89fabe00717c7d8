"""Recording of code that is not written in the language: transcripts, truth, stated relations."""
