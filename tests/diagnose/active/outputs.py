"""Outputs of vendors' tools in their documented forms."""

DCGM = """\
{"DCGM Diagnostic": {"test_categories": [{"category": "Hardware", "tests": [
  {"name": "memory", "results": [
    {"entity_group": "GPU", "entity_id": 3, "entity_group_id": 1, "status": "STATUS"}],
   "test_summary": {"status": "STATUS"}}]}]}}
"""
BURN = (
    "GPU 0: H (UUID: GPU-0)\n"
    "\r10.0%  proc'd: 0 (0 Gflop/s)   errors: 0   temps: 40 C "
    "\r50.0%  proc'd: 24 (14200 Gflop/s)   errors: 0   temps: 65 C \n\tSummary at:   now\n"
    "\r100.0%  proc'd: 48 (14300 Gflop/s)   errors: 0   temps: 66 C \n"
    "Killing processes with SIGTERM (soft kill)\ndone\n\nTested 1 GPUs:\n\tGPU 0: OK\n"
)
BURN_FAULTY = (
    "\r50.0%  proc'd: 24 (14100 Gflop/s)   errors: 12  (WARNING!)  temps: 65 C \n"
    "\nTested 1 GPUs:\n\tGPU 0: FAULTY\n"
)
RVS = (
    "[INFO  ] [  1.0] [gst] start\n"
    "[RESULT] [ 12.5] [gst] gst 51234 Gflops: 17000.0 Target stress: 16000 met: TRUE\n"
)
XPU = """\
+-------------------------+------------------------------------------------------------------+
| Device ID               | 0                                                                |
+-------------------------+------------------------------------------------------------------+
| Performance Computation | Result: Pass                                                     |
|                         | Message: Pass to check computation performance. Its GFLOPS       |
|                         |   is 11120.225.                                                  |
+-------------------------+------------------------------------------------------------------+
"""
