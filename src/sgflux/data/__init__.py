"""Pictures and their graphs: the bundled world, files, pictures, caches."""
