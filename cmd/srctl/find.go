package main

import (
	"context"
	"fmt"

	"reflinksr/internal/repository"
)

// at finds the attached SR at a path.
func (s *session) at(ctx context.Context, path string) (repository.SR, error) {
	sr, err := repository.At(ctx, path)
	if err != nil {
		return "", fmt.Errorf("%w (srctl ls lists those that are)", err)
	}
	s.path, err = sr.Path()
	return sr, err
}

// volumeAt finds a volume of the attached SR at a path.
func (s *session) volumeAt(ctx context.Context, path, key string) (repository.Volume, error) {
	sr, err := s.at(ctx, path)
	if err != nil {
		return repository.Volume{}, err
	}
	return repository.ParseVolume(sr, key)
}

// volumesAt finds two volumes of the attached SR at a path.
func (s *session) volumesAt(ctx context.Context, path, key, other string) (a, b repository.Volume, err error) {
	if a, err = s.volumeAt(ctx, path, key); err == nil {
		b, err = repository.ParseVolume(a.SR, other)
	}
	return a, b, err
}
