"""Training jobs: `jobs` keeps them on disk, `runner` is the process that runs them one at a time, `job` trains one."""
