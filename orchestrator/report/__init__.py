"""Reports: a study's summary as data, and the forms in which it is shown."""
