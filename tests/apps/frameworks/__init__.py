"""The same routes in every framework; `tests/frameworks` says what each must do."""
