package volume

import (
	"fmt"

	"reflinksr/internal/fault"
	"reflinksr/internal/units"
	"reflinksr/sr"
)

// limitKeys are the keys of a volume that limit who mirrors it, as somebody sets them by Volume.set, or by sm-config of the toolstack.
var limitKeys = []string{"mirror_limit", "_sm_config_mirror_limit"}

// MirrorLimit is how many bytes a second a mirror of the volume may send: 0 if that is not limited.
func MirrorLimit(handle string, key sr.Key) (int64, error) {
	st, err := Stat(handle, key)
	if err != nil {
		return 0, err
	}
	for _, k := range limitKeys {
		if text := st.Keys[k]; text != "" {
			n, err := units.Parse(text)
			if err != nil {
				return 0, fault.Hint(fmt.Errorf("volume %s: its key %s: %w", key, k, err), "set it to a number of bytes a second, like 50M, or unset it")
			}
			return n, nil
		}
	}
	return 0, nil
}
