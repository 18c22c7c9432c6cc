"""For all tests: nothing is sent anywhere, and no generated example is judged by the clock."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is first imported

# Hypothesis fails an example that takes 0.2 s, which on a busy machine any of them may.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
