package repository

import (
	"context"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/sr"
	"reflinksr/volume"
)

// SRStat is what an SR is like, as the toolstack asks.
type SRStat = sr.Stat

// VolumeStat is what a volume is like, as the toolstack asks.
type VolumeStat = volume.Volume

// Full is what Shortage says of an SR that has no space left.
const Full = filesystem.Full

// Shortage says of a healthy SR in a word that it has hardly any space left: FULL, LOW, else "".
func Shortage(st SRStat) string {
	if st.Health[0] != Healthy {
		return ""
	}
	return filesystem.Shortage(st.FreeSpace, st.TotalSpace)
}

// Healthy is the state, the first text of SRStat.Health, of an SR that can be used.
const Healthy = sr.Healthy

// CBTMetadata is the VolumeType of a volume whose data was destroyed.
const CBTMetadata = volume.CBTMetadata

// Stat describes the SR, and warns of volumes that could outgrow it. One that is not where it
// was attached is described as well, as unreachable.
func (s SR) Stat(context.Context) (SRStat, error) { return sr.StatSR(string(s), volume.Warning) }

// List describes every volume of the SR, in the order of their keys, damaged ones as such.
func (s SR) List(context.Context) ([]VolumeStat, error) { return volume.List(string(s)) }

// Stat describes the volume.
func (v Volume) Stat(context.Context) (VolumeStat, error) { return volume.Stat(string(v.SR), v.Key) }

// Made tells when the volume was made, which nobody knows of an adopted one (zero), and what it is a snapshot of: "" of what is none.
func (v Volume) Made(context.Context) (at time.Time, of Key, err error) {
	s, err := sr.Open(string(v.SR), dirfs.Unlocked)
	if err != nil {
		return at, "", err
	}
	defer s.Close()
	r, err := volume.Load(s, v.Key)
	if err != nil {
		return at, "", err
	}
	if r.Origin != nil && r.Origin.Kind == volume.Snapshot {
		of = r.Origin.Of
	}
	return r.Created, of, nil
}
