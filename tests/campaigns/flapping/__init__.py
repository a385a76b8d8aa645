"""One of three upstreams comes and goes under load: nobody who could be served is refused, nothing is stored twice."""
