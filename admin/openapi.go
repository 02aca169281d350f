package admin

import (
	_ "embed"
	"net/http"
)

// openapiDocument describes the API (OpenAPI 3.1); tests hold the handlers to it.
//
//go:embed openapi.json
var openapiDocument []byte

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openapiDocument) // fails only when the client has left
}
