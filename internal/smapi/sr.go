package smapi

// The requests of the class SR. What each does is in Calls.
type (
	SRProbe struct {
		answers[[]ProbeResult]
		Configuration map[string]string `json:"configuration" about:"what is known so far"`
	}
	SRCreate struct {
		answers[map[string]string]
		UUID          string            `json:"uuid" about:"that the SR gets"`
		Configuration map[string]string `json:"configuration" about:"where and how; Plugin.query tells the keys"`
		Name          string            `json:"name"`
		Description   string            `json:"description"`
	}
	SRAttach struct {
		answers[string]
		Configuration map[string]string `json:"configuration" about:"what SR.create answered"`
	}
	SRDetach struct {
		answers[Unit]
		SR string `json:"sr" is:"sr"`
	}
	SRDestroy struct {
		answers[Unit]
		SR string `json:"sr" is:"sr"`
	}
	SRStat struct {
		answers[SRStatus]
		SR string `json:"sr" is:"sr"`
	}
	SRSetName struct {
		answers[Unit]
		SR      string `json:"sr" is:"sr"`
		NewName string `json:"new_name" item:"name"`
	}
	SRSetDescription struct {
		answers[Unit]
		SR             string `json:"sr" is:"sr"`
		NewDescription string `json:"new_description" item:"description"`
	}
	SRLs struct {
		answers[[]Volume]
		SR string `json:"sr" is:"sr"`
	}
)

// Call is SR.probe.
func (SRProbe) Call() string { return "SR.probe" }

// Call is SR.create.
func (SRCreate) Call() string { return "SR.create" }

// Call is SR.attach.
func (SRAttach) Call() string { return "SR.attach" }

// Call is SR.detach.
func (SRDetach) Call() string { return "SR.detach" }

// Call is SR.destroy.
func (SRDestroy) Call() string { return "SR.destroy" }

// Call is SR.stat.
func (SRStat) Call() string { return "SR.stat" }

// Call is SR.set_name.
func (SRSetName) Call() string { return "SR.set_name" }

// Call is SR.set_description.
func (SRSetDescription) Call() string { return "SR.set_description" }

// Call is SR.ls.
func (SRLs) Call() string { return "SR.ls" }

// SRStatus is how an SR is.
type SRStatus struct {
	SR          string   `json:"sr" is:"sr"`
	UUID        string   `json:"uuid,omitempty"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	FreeSpace   int64    `json:"free_space" about:"bytes"`
	TotalSpace  int64    `json:"total_space" about:"bytes"`
	Datasources []string `json:"datasources" about:"URIs of metrics, each served: the toolstack waits for it"`
	Clustered   bool     `json:"clustered"`
	Health      Health   `json:"health"`
}

func (SRStatus) typeName() string { return "sr_stat" }

// Health is a state, one of those below, and a text for people. An SR is scanned only while it
// is Healthy.
type Health [2]string

// The states of an SR.
const (
	Healthy     = "Healthy"
	Recovering  = "Recovering"
	Unreachable = "Unreachable"
	Unavailable = "Unavailable"
)

func (Health) describe() Type {
	return Type{Kind: Pair, Name: "health", Of: []Type{{Kind: Enum, Names: []string{Healthy, Recovering, Unreachable, Unavailable}}, {Kind: Text}}}
}

// ProbeResult is one thing that a configuration could become.
type ProbeResult struct {
	Configuration map[string]string `json:"configuration" about:"has sr_uuid if, and only if, there is an SR"`
	Complete      bool              `json:"complete" about:"SR.create and SR.attach need no more; true if there is an SR"`
	SR            *SRStatus         `json:"sr,omitempty"`
	ExtraInfo     map[string]string `json:"extra_info"`
}
