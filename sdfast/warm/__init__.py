"""A worker that holds a model, so that painting begins at once.

The worker is a process of its own behind a Unix socket. Who comes in is told what it holds, may
hand over one job and hears the engine's events until the picture is there; then both hang up. All
else (names, files, the screen, exit codes) stays with who asked, so a picture is the same with the
worker and without it, and who loses the worker paints by itself.

    place     where socket, lock and log stand, and that nobody else can reach them
    wire      what is said, as data
    greeting  what a worker holds, and whether that is what one wants
    client    asking a worker; wakes no torch
    worker    being one
    control   starting, stopping and looking at one
    handover  giving a whole call to the worker's front, which spares it all imports
"""
