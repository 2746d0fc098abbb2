package snapshot

import "reflinksr/internal/track"

// Sweep removes from this host what calls have left that were killed.
func Sweep() { track.Sweep() }
