"""What a trial runs: the objectives' bases, functions, Keras, KerasTuner, scikit-learn, data."""
