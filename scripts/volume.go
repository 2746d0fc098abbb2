package scripts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reflinksr/internal/smapi"
)

// volume makes a volume by one call of Volume.create.
func (s *script) volume(_ bool, args []string) error {
	if len(args) < 2 || !variable.MatchString("$"+args[0]) {
		return usage("volume")
	}
	request, err := newVolume(s.ts.Getenv("SR"), args[1], args[2:])
	if err != nil {
		return err
	}
	if _, err := s.mustCall(request); err != nil {
		return err
	}
	return s.get(false, []string{args[0], ".key"})
}

// newVolume is the request for a volume of a size: what is not said otherwise is as in
// most scenarios.
func newVolume(sr, size string, otherwise []string) (request smapi.VolumeCreate, err error) {
	bytes, err := ParseBytes(size)
	if err != nil {
		return request, err
	}
	request = smapi.VolumeCreate{SR: sr, Name: "disk", Size: bytes}
	for _, arg := range otherwise {
		name, value, said := strings.Cut(arg, "=")
		switch name {
		case "sr":
			request.SR = value
		case "name":
			request.Name = value
		case "description":
			request.Description = value
		case "sharable":
			if request.Sharable, err = strconv.ParseBool(value); err != nil {
				return request, fmt.Errorf("sharable is true or false, not %q", value)
			}
		default:
			said = false
		}
		if !said {
			return request, fmt.Errorf("%q is no argument of a new volume; there are sr=, name=, description= and sharable=", arg)
		}
	}
	if request.SR == "" {
		return request, errors.New("there is no SR yet: say sr first")
	}
	return request, nil
}
