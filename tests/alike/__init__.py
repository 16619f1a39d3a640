"""The same application under `uvicorn.run` and `rsgi.run`: what each keyword of uvicorn's does."""
