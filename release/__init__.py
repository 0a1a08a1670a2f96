"""What a release is made with and checked by; none of it is in the wheel or the sdist. See docs/releasing.md."""
