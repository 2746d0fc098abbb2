package repository

import (
	"context"

	"reflinksr/sr"
	"reflinksr/volume"
)

// SetName gives the SR another name: fault.ErrInvalid if it cannot be one.
func (s SR) SetName(_ context.Context, name string) error { return sr.SetName(string(s), name) }

// SetDescription gives the SR another description: fault.ErrInvalid if it cannot be one.
func (s SR) SetDescription(_ context.Context, description string) error {
	return sr.SetDescription(string(s), description)
}

// SetName gives the volume another name: fault.ErrInvalid if it cannot be one.
func (v Volume) SetName(_ context.Context, name string) error {
	return volume.SetName(string(v.SR), v.Key, name)
}

// SetDescription gives the volume another description: fault.ErrInvalid if it cannot be one.
func (v Volume) SetDescription(_ context.Context, description string) error {
	return volume.SetDescription(string(v.SR), v.Key, description)
}

// Set stores a pair of the caller's with the volume: fault.ErrInvalid if all of them are too long.
func (v Volume) Set(_ context.Context, key, value string) error {
	return volume.Set(string(v.SR), v.Key, key, value)
}

// Unset removes a pair, if it is there.
func (v Volume) Unset(_ context.Context, key string) error {
	return volume.Unset(string(v.SR), v.Key, key)
}
