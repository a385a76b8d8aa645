"""Requests to a gateway: what is asked, when it is asked again, how its faults are told; once blocking, once not."""
