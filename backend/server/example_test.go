package server_test

import (
	"encoding/json"
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

	body := `{"model": "world:nrt", "question": "kin : fay a) friend b) mother c) friend d) father who ?",
		"answer": "well you see that guy is called lena i guess .",
		"chains": ["hmm here we go again", "a) friend emil b) mother kurt c) friend jane d) father lena"]}`
	res, err := http.Post(ts.URL+"/v1/score", "application/json", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	var verdict struct {
		Base   float64 `json:"R_base"` // the reward without a chain
		Chains []struct {
			Rank  int
			Chain string
			R     float64
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&verdict); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.3f without a chain\n", verdict.Base)
	for _, c := range verdict.Chains {
		fmt.Printf("%.3f, rank %d, after %s\n", c.R, c.Rank, c.Chain)
	}
	// Output:
	// 0.207 without a chain
	// 0.185, rank 2, after hmm here we go again
	// 0.448, rank 1, after a) friend emil b) mother kurt c) friend jane d) father lena
}
