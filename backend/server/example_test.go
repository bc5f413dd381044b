package server_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"nrt/backend/cpu"
	"nrt/backend/server"
	"nrt/trainer/world/models"
)

// The page and /v1 inside another program: Handler is an http.Handler like any other.
func ExampleServer_Handler() {
	files, err := models.Open("world:nrt") // or os.DirFS(folder)
	if err != nil {
		log.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	s, err := server.New(server.Options{
		Models: []server.Source{{Name: "world:nrt", Files: files, World: true}},
		Device: dev,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	mux := http.NewServeMux()
	mux.Handle("/", s.Handler())
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "yours") })
	ts := httptest.NewServer(mux)
	defer ts.Close()

	body := `{"model": "world:nrt", "seed": 1, "messages": [{"role": "user",
		"content": "kin : fay a) friend b) mother c) friend d) father who ?"}]}`
	res, err := http.Post(ts.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.Status, strings.Contains(string(answer), `"reasoning_content":"a) friend emil`))
	// Output: 200 OK true
}
