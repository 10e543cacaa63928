"""An answer's bytes on their way to the caller, and what is read off them as they pass."""
