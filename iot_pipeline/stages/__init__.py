"""One function per stage: core plus ports, in the order that keeps data safe."""
