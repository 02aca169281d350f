package h3

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// codeNames are those of RFC 9114 8.1 and RFC 9204 6.
var codeNames = map[uint64]string{
	codeStreamCreationError: "H3_STREAM_CREATION_ERROR", codeClosedCriticalStream: "H3_CLOSED_CRITICAL_STREAM",
	codeFrameUnexpected: "H3_FRAME_UNEXPECTED", codeFrameError: "H3_FRAME_ERROR", codeIDError: "H3_ID_ERROR",
	codeSettingsError: "H3_SETTINGS_ERROR", codeMissingSettings: "H3_MISSING_SETTINGS",
	codeRequestIncomplete: "H3_REQUEST_INCOMPLETE", codeMessageError: "H3_MESSAGE_ERROR",
	codeDecompressionFailed: "QPACK_DECOMPRESSION_FAILED", codeEncoderStreamError: "QPACK_ENCODER_STREAM_ERROR",
	codeDecoderStreamError: "QPACK_DECODER_STREAM_ERROR",
}

// verdicts makes the rows of docs/http.md of what the tests do, one for each
// section, verdict and test.
func verdicts() (rows []string) {
	type key struct{ section, verdict, test string }
	names := map[key][]string{}
	var order []key
	add := func(section, name, verdict, test string) {
		k := key{section, verdict, test}
		if names[k] == nil {
			order = append(order, k)
		}
		names[k] = append(names[k], strings.ReplaceAll(name, "|", "\\|"))
	}
	for _, b := range connectionBreaches() {
		add(b.section, b.name, "connection error "+codeNames[uint64(b.code)], "TestConnectionErrors")
	}
	for _, b := range streamBreaches() {
		add(b.section, b.name, "stream error "+codeNames[uint64(b.code)], "TestStreamErrors")
	}
	for _, a := range allowedRequests() {
		verdict := "passed"
		if a.status != "200" {
			verdict = a.status
		}
		add(a.section, a.name, verdict, "TestAllowedRequests")
	}
	for _, a := range allowedElsewhere() {
		add(a.section, a.name, "borne", "TestAllowedElsewhere")
	}
	for _, k := range order {
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", strings.Join(names[k], "; "), k.verdict, k.section, k.test))
	}
	return rows
}

// TestDocument has docs/http.md say what the tests hold the engine to.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## HTTP/3\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := verdicts()
	for _, row := range rows {
		if !strings.Contains(section, row+"\n") {
			t.Errorf("docs/http.md lacks the row\n%s", row)
		}
	}
	n := 0
	for _, test := range []string{"ConnectionErrors", "StreamErrors", "AllowedRequests", "AllowedElsewhere"} {
		n += strings.Count(section, " | Test"+test+" |")
	}
	if n != len(rows) {
		t.Errorf("docs/http.md has %d rows of tests, want %d", n, len(rows))
	}
}
