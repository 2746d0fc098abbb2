package smapi

// The requests of the class Data. What each does is in Calls.
type (
	DataCopy struct {
		answers[Operation]
		URI       string    `json:"uri" is:"uri"`
		Domain    string    `json:"domain"`
		Remote    string    `json:"remote" about:"where to, a URI"`
		Blocklist Blocklist `json:"blocklist"`
	}
	DataMirror struct {
		answers[Operation]
		URI    string `json:"uri" is:"uri"`
		Domain string `json:"domain"`
		Remote string `json:"remote" about:"where to, a URI"`
	}
	DataStat struct {
		answers[Status]
		Operation Operation `json:"operation"`
	}
	DataCancel struct {
		answers[Unit]
		Operation Operation `json:"operation"`
	}
	DataDestroy struct {
		answers[Unit]
		Operation Operation `json:"operation"`
	}
	DataLs struct{ answers[[]Operation] }
)

// Call is Data.copy.
func (DataCopy) Call() string { return "Data.copy" }

// Call is Data.mirror.
func (DataMirror) Call() string { return "Data.mirror" }

// Call is Data.stat.
func (DataStat) Call() string { return "Data.stat" }

// Call is Data.cancel.
func (DataCancel) Call() string { return "Data.cancel" }

// Call is Data.destroy.
func (DataDestroy) Call() string { return "Data.destroy" }

// Call is Data.ls.
func (DataLs) Call() string { return "Data.ls" }

// Operation is a copy, or a mirror, by its identifier.
type Operation struct {
	CopyV1   *string `json:"CopyV1"`
	MirrorV1 *string `json:"MirrorV1"`
}

func (Operation) isVariant() {}

// MarshalJSON is as a variant.
func (o Operation) MarshalJSON() ([]byte, error) { return marshalVariant(o) }

// UnmarshalJSON is of a variant.
func (o *Operation) UnmarshalJSON(data []byte) error { return unmarshalVariant(data, o) }

// Status is how an operation goes.
type Status struct {
	Failed   bool     `json:"failed"`
	Complete bool     `json:"complete"`
	Progress *float64 `json:"progress,omitempty" about:"from 0 to 1"`
}
