"""Many jobs, and nothing lost: from a file of lines to a folder of pictures.

    blocks     a file's bytes, or a pipe's as they arrive
    lines      bytes to records, one a line
    tasks      records to jobs, each with the key that names it for good
    manifest   what is done already, as lines in the output folder; `shards` which part's it is
    store      where finished pictures are kept; `pictures` what they are called
    window     which of the jobs that wait are painted next, and together
    studio     a model and its brush: jobs to files of pictures
    crew       one studio here, or one in each of several processes
    cluster    one in each worker of a Ray cluster
    run        all of these in a row

Everything here streams: a file may be longer than memory. What is remembered of a job is its key,
16 bytes. Nothing here knows of a terminal: what happens comes out as events.
"""
