"""What a study is."""
