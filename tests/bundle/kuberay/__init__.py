"""KubeRay's published schema of a RayCluster, trimmed to what our manifest may say."""
