package config

import _ "embed"

//go:embed edge.schema.json
var schema []byte

// Schema returns the JSON schema of the configuration, by which editors complete
// and check it. It knows the shape; what a value means only Parse knows.
func Schema() []byte { return schema }
