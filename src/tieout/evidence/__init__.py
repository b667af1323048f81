"""Proof that it worked: evaluate -> report with intervals -> gate -> page. Black box; no torch here."""
