package smapi

// The requests of the class Plugin. What each does is in Calls.
type (
	PluginQuery       struct{ answers[QueryResult] }
	PluginLs          struct{ answers[[]string] }
	PluginDiagnostics struct{ answers[string] }
)

// Call is Plugin.query.
func (PluginQuery) Call() string { return "Plugin.query" }

// Call is Plugin.ls.
func (PluginLs) Call() string { return "Plugin.ls" }

// Call is Plugin.diagnostics.
func (PluginDiagnostics) Call() string { return "Plugin.diagnostics" }

// APIVersion is the version of the interface: what a plugin says that it has.
const APIVersion = "5.0"

// QueryResult is what a plugin says of itself.
type QueryResult struct {
	Plugin               string            `json:"plugin"`
	Name                 string            `json:"name"`
	Description          string            `json:"description"`
	Vendor               string            `json:"vendor"`
	Copyright            string            `json:"copyright"`
	Version              string            `json:"version" about:"of the plugin"`
	RequiredAPIVersion   string            `json:"required_api_version" about:"5.0"`
	Features             []string          `json:"features" about:"see below"`
	Configuration        map[string]string `json:"configuration" about:"what SR.create takes, each with a sentence"`
	RequiredClusterStack []string          `json:"required_cluster_stack"`
}
