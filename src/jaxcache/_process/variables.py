"""Names of the environment variables that tell a process to use a cache; ``environment`` does so."""

VARIABLES = "JAXCACHE_"  # what the names of all of them begin with
DIRECTORY_VARIABLE = f"{VARIABLES}DIR"
MEMORY_VARIABLE = f"{VARIABLES}MEMORY_LIMIT"
RECORD_VARIABLE = f"{VARIABLES}RECORD"
CODE_KEY_VARIABLE = f"{VARIABLES}CODE_KEY"
EVICTION_VARIABLE = f"{VARIABLES}EVICTION"
