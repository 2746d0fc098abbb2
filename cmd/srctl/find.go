package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/repository"
)

// at finds the attached SR that is called so: by path, UUID, name, or where its filesystem is mounted.
func (s *session) at(ctx context.Context, text string) (repository.SR, error) {
	path, err := filepath.Abs(text)
	if err != nil {
		return "", err
	}
	paths := []string{path}
	if sr, err := repository.Find(ctx, path, paths, nil); err == nil {
		if called, _ := sr.Path(); called == path {
			s.path = path
			return sr, nil // without a look at it, which it may not answer
		}
	}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		paths = append(paths, real)
	}
	var below func(string) bool
	if st := new(unix.Stat_t); text != "" && unix.Stat(path, st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		below = func(sr string) bool {
			of := new(unix.Stat_t)
			return strings.HasPrefix(sr, strings.TrimSuffix(paths[len(paths)-1], "/")+"/") && unix.Stat(sr, of) == nil && of.Dev == st.Dev
		}
	}
	sr, err := repository.Find(ctx, text, paths, below)
	if err != nil {
		return "", err
	}
	s.path, err = sr.Path()
	return sr, err
}

// someOrAll finds the attached SRs that are called so: all of this host, if none is.
func (s *session) someOrAll(ctx context.Context, texts []string) ([]repository.SR, error) {
	if len(texts) == 0 {
		return repository.Attached(ctx)
	}
	srs := make([]repository.SR, len(texts))
	for i, text := range texts {
		var err error
		if srs[i], err = s.at(ctx, text); err != nil {
			return nil, err
		}
	}
	return srs, nil
}

// directoryOf is that of an SR which need not be attached: what there is of that path, or the attached one that is called so.
func (s *session) directoryOf(ctx context.Context, text string) (string, error) {
	path, err := filepath.Abs(text)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); err == nil || strings.Contains(text, "/") {
		s.path = path
		return path, nil
	}
	if _, err := s.at(ctx, text); err == nil {
		path = s.path
	}
	s.path = path
	return path, nil
}

// volumeAt finds a volume of an attached SR, as both are called.
func (s *session) volumeAt(ctx context.Context, sr, volume string) (repository.Volume, error) {
	at, err := s.at(ctx, sr)
	if err != nil {
		return repository.Volume{}, err
	}
	return at.Find(ctx, volume)
}

// volumesAt finds two volumes of an attached SR.
func (s *session) volumesAt(ctx context.Context, sr, volume, other string) (a, b repository.Volume, err error) {
	if a, err = s.volumeAt(ctx, sr, volume); err == nil {
		b, err = a.SR.Find(ctx, other)
	}
	return a, b, err
}
