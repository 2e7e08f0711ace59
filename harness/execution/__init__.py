"""Doing the work: victims, judgement, jobs, and the driver that schedules them."""
