BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'line-runs','m001_runs_units_steps_events','2026-11-30 02:53:13.329192+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'line-runs','m002_vocabulary_and_model_of_each_step','2026-11-30 02:53:13.329759+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'line-runs','m003_evidence_of_each_label','2026-11-30 02:53:13.330695+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'line-runs','m004_leases','2026-11-30 02:53:13.331211+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'line-runs','m005_one_setting_for_the_pooling','2026-11-30 02:53:13.331368+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'line-runs','m006_what_goes_on','2026-11-30 02:53:13.357998+00:00');
INSERT INTO "_sqlite_migrations" VALUES(7,'line-runs','m007_what_is_wrong_with_a_label','2026-11-30 02:53:13.359089+00:00');
CREATE TABLE "events" (
   "id" INTEGER PRIMARY KEY,
   "run" TEXT NOT NULL REFERENCES "runs"("id"),
   "unit" INTEGER,
   "kind" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "detail" TEXT
);
INSERT INTO "events" VALUES(1,'model-head-1',NULL,'worked with',1.79600719343558287623e+09,'{"began": true, "versions": {"python": "3.11.7", "line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "timm": "1.0.31", "diffusers": "0.42.1", "langchain-ollama": "1.1.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}, "code": "3aacf4f05731e418b0535b06165effbe57b70e7f2f9b2c5b22dfeb711117a2f6", "machine": {"os": "Linux-6.18.44-fc-v657-x86_64-with-glibc2.36", "architecture": "x86_64", "cpu": "Intel(R) Xeon(R) Processor", "cores": 2, "memory": 25325268992, "torch": null}, "fingerprints": {"target": "scripted target", "generator": "scripted generator", "language_model": "langchain:house_chat.Chat version=none arguments=12443e57d4364741", "control": "scripted control"}, "made_of": {}, "images": [], "prompts": {"iteration": {"sha256": "1f4742ec62948e13948ff7818f927253b21c1663d9d1534fa2f8f988ffa28a55", "messages": [["system", "You find out what one unit of a vision model looks for. The scoreboard lists concepts with the unit''s response to pictures of them: the higher, the better.\nFirst reason, in two short sentences: what do the strongest concepts share that the weakest lack (kind of thing, shape, texture, material, colour, surroundings, use)? Which two or three other things, not listed yet, share it too? Then propose the one of these that should excite the unit most: a sibling of the strongest, a special kind of them, or a part, material or pattern that they share.\nThe concept is one to three words and names something that can be photographed. Never answer with a concept that is on the scoreboard or forbidden.\nAnswer with JSON only: {\"reasoning\": \"...\", \"concept\": \"...\"}"], ["user", "Scoreboard:\n9.1 husky\n8.7 malamute\n6.2 wolf\n2.9 red fox\n0.4 sofa\nForbidden: dog sled, snow dog\nPictures can be made of, for example: samoyed, sled, tiger, poodle\nStrongest: husky, malamute, wolf. Name a new concept, not one of these."], ["assistant", "{\"reasoning\": \"Husky, malamute and wolf are thick-coated northern dogs, the sofa is not an animal. Other such dogs: samoyed, akita, eskimo dog.\", \"concept\": \"samoyed\"}"], ["user", "Scoreboard:\n4.8 zebra crossing\n4.5 piano\n3.9 zebra\n0.7 horse\n0.6 street\nForbidden: chess board\nPictures can be made of, for example: barcode, donkey, guitar, car\nStrongest: zebra crossing, piano, zebra. Name a new concept, not one of these."], ["assistant", "{\"reasoning\": \"Zebra crossing, piano and zebra share black and white stripes, and the plain horse is weak. Other striped things: barcode, striped shirt, prison uniform.\", \"concept\": \"barcode\"}"]]}, "summary": {"sha256": "c31c223e53ade85357908cd863a060fe7ccf8609474013d5f9a42cbfaaa2a74a", "messages": [["system", "You find out what one unit of a vision model looks for. You see the three concepts whose pictures excite the unit most. First reason, in one short sentence: what do the three share? Then name one more general concept that unifies them.\nThe concept is one to three words and names something that can be photographed. Never answer with one of the three or with a forbidden concept.\nAnswer with JSON only: {\"reasoning\": \"...\", \"concept\": \"...\"}"], ["user", "Scoreboard:\n5.1 espresso\n4.9 teapot\n4.2 soup bowl\nForbidden: mug\nStrongest: espresso, teapot, soup bowl. Name a new concept, not one of these."], ["assistant", "{\"reasoning\": \"Espresso, teapot and soup bowl are all round vessels for hot food or drink.\", \"concept\": \"tableware\"}"]]}, "initial": {"sha256": "8d8539075f9fc3d7aafad9f15bd496e2234169701192cdae1884592976b3f4dc", "messages": [["system", "You find out what one unit of a vision model looks for. Nothing is known yet but the model and the layer. First reason, in one short sentence: what do units of such a layer respond to, and what kind of it has not been named yet? Then name one such thing, as different from those already named as can be.\nThe concept is one to three words and names something that can be photographed. Never answer with one that was named already.\nAnswer with JSON only: {\"reasoning\": \"...\", \"concept\": \"...\"}"], ["user", "torchvision:resnet18, layer avgpool, 512 units.\nNamed already: none\nName a new concept."], ["assistant", "{\"reasoning\": \"Units of a late layer of a classifier respond to kinds of objects, animals first among them.\", \"concept\": \"spaniel\"}"], ["user", "torchvision:resnet18, layer avgpool, 512 units.\nNamed already: spaniel, sports car\nName a new concept."], ["assistant", "{\"reasoning\": \"An animal and a vehicle are named; buildings and landscapes are not.\", \"concept\": \"lighthouse\"}"]]}, "picture": {"sha256": "6878cb86e785b7970f97a3b6b31e8ed18fd65fc5830f295b86c2b368876b8852", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "angles": ["extreme close-up", "wide angle shot", "aerial view", "low angle"], "lightings": ["cinematic lighting", "natural sunlight", "studio lighting"]}}}');
INSERT INTO "events" VALUES(2,'model-head-1',NULL,'own code vouched for',1.79600719343627285955e+09,'{"seal": "dcce89b6b2cfee72b28fe45b49bc84a362d5da841aaaea1c886f05b018d82945"}');
INSERT INTO "events" VALUES(3,'model-head-1',NULL,'work',1.79600719353304195402e+09,'{"process": 4457, "host": "vm"}');
INSERT INTO "events" VALUES(4,'model-head-1',0,'unit finished',1.79600720293680286409e+09,'{}');
INSERT INTO "events" VALUES(5,'model-head-1',NULL,'finished',1.79600720294163727756e+09,'{}');
INSERT INTO "events" VALUES(6,'model-head-2',NULL,'worked with',1.79600720303101277349e+09,'{"began": true, "versions": {"python": "3.11.7", "line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "timm": "1.0.31", "diffusers": "0.42.1", "langchain-ollama": "1.1.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}, "code": "3aacf4f05731e418b0535b06165effbe57b70e7f2f9b2c5b22dfeb711117a2f6", "machine": {"os": "Linux-6.18.44-fc-v657-x86_64-with-glibc2.36", "architecture": "x86_64", "cpu": "Intel(R) Xeon(R) Processor", "cores": 2, "memory": 25325268992, "torch": null}, "fingerprints": {"target": "scripted target", "generator": "scripted generator", "language_model": "langchain:house_chat.Chat version=none arguments=12443e57d4364741", "control": "scripted control"}, "made_of": {}, "images": [], "prompts": {"iteration": {"sha256": "1f4742ec62948e13948ff7818f927253b21c1663d9d1534fa2f8f988ffa28a55", "messages": [["system", "You find out what one unit of a vision model looks for. The scoreboard lists concepts with the unit''s response to pictures of them: the higher, the better.\nFirst reason, in two short sentences: what do the strongest concepts share that the weakest lack (kind of thing, shape, texture, material, colour, surroundings, use)? Which two or three other things, not listed yet, share it too? Then propose the one of these that should excite the unit most: a sibling of the strongest, a special kind of them, or a part, material or pattern that they share.\nThe concept is one to three words and names something that can be photographed. Never answer with a concept that is on the scoreboard or forbidden.\nAnswer with JSON only: {\"reasoning\": \"...\", \"concept\": \"...\"}"], ["user", "Scoreboard:\n9.1 husky\n8.7 malamute\n6.2 wolf\n2.9 red fox\n0.4 sofa\nForbidden: dog sled, snow dog\nPictures can be made of, for example: samoyed, sled, tiger, poodle\nStrongest: husky, malamute, wolf. Name a new concept, not one of these."], ["assistant", "{\"reasoning\": \"Husky, malamute and wolf are thick-coated northern dogs, the sofa is not an animal. Other such dogs: samoyed, akita, eskimo dog.\", \"concept\": \"samoyed\"}"], ["user", "Scoreboard:\n4.8 zebra crossing\n4.5 piano\n3.9 zebra\n0.7 horse\n0.6 street\nForbidden: chess board\nPictures can be made of, for example: barcode, donkey, guitar, car\nStrongest: zebra crossing, piano, zebra. Name a new concept, not one of these."], ["assistant", "{\"reasoning\": \"Zebra crossing, piano and zebra share black and white stripes, and the plain horse is weak. Other striped things: barcode, striped shirt, prison uniform.\", \"concept\": \"barcode\"}"]]}, "summary": {"sha256": "c31c223e53ade85357908cd863a060fe7ccf8609474013d5f9a42cbfaaa2a74a", "messages": [["system", "You find out what one unit of a vision model looks for. You see the three concepts whose pictures excite the unit most. First reason, in one short sentence: what do the three share? Then name one more general concept that unifies them.\nThe concept is one to three words and names something that can be photographed. Never answer with one of the three or with a forbidden concept.\nAnswer with JSON only: {\"reasoning\": \"...\", \"concept\": \"...\"}"], ["user", "Scoreboard:\n5.1 espresso\n4.9 teapot\n4.2 soup bowl\nForbidden: mug\nStrongest: espresso, teapot, soup bowl. Name a new concept, not one of these."], ["assistant", "{\"reasoning\": \"Espresso, teapot and soup bowl are all round vessels for hot food or drink.\", \"concept\": \"tableware\"}"]]}, "initial": {"sha256": "8d8539075f9fc3d7aafad9f15bd496e2234169701192cdae1884592976b3f4dc", "messages": [["system", "You find out what one unit of a vision model looks for. Nothing is known yet but the model and the layer. First reason, in one short sentence: what do units of such a layer respond to, and what kind of it has not been named yet? Then name one such thing, as different from those already named as can be.\nThe concept is one to three words and names something that can be photographed. Never answer with one that was named already.\nAnswer with JSON only: {\"reasoning\": \"...\", \"concept\": \"...\"}"], ["user", "torchvision:resnet18, layer avgpool, 512 units.\nNamed already: none\nName a new concept."], ["assistant", "{\"reasoning\": \"Units of a late layer of a classifier respond to kinds of objects, animals first among them.\", \"concept\": \"spaniel\"}"], ["user", "torchvision:resnet18, layer avgpool, 512 units.\nNamed already: spaniel, sports car\nName a new concept."], ["assistant", "{\"reasoning\": \"An animal and a vehicle are named; buildings and landscapes are not.\", \"concept\": \"lighthouse\"}"]]}, "picture": {"sha256": "6878cb86e785b7970f97a3b6b31e8ed18fd65fc5830f295b86c2b368876b8852", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "angles": ["extreme close-up", "wide angle shot", "aerial view", "low angle"], "lightings": ["cinematic lighting", "natural sunlight", "studio lighting"]}}}');
INSERT INTO "events" VALUES(7,'model-head-2',NULL,'own code vouched for',1.79600720303201341629e+09,'{"seal": "dcce89b6b2cfee72b28fe45b49bc84a362d5da841aaaea1c886f05b018d82945"}');
INSERT INTO "events" VALUES(8,'model-head-2',NULL,'work',1.79600720309830784796e+09,'{"process": 4457, "host": "vm"}');
INSERT INTO "events" VALUES(9,'model-head-2',NULL,'drained',1.79600720338142728809e+09,'{}');
CREATE TABLE "leases" (
   "thread" TEXT PRIMARY KEY,
   "run" TEXT NOT NULL REFERENCES "runs"("id"),
   "unit" INTEGER,
   "token" TEXT NOT NULL,
   "process" INTEGER NOT NULL,
   "host" TEXT NOT NULL,
   "boot" TEXT NOT NULL,
   "began" REAL NOT NULL,
   "beats" INTEGER NOT NULL,
   "beat" REAL NOT NULL,
   "stop" TEXT
, "node" TEXT, "kind" TEXT, "step" INTEGER, "steps" INTEGER, "attempt" INTEGER, "concept" TEXT, "best" TEXT, "best_score" REAL, "since" REAL, "drawn" INTEGER, "reused" INTEGER, "measured" INTEGER);
CREATE TABLE "runs" (
   "id" TEXT PRIMARY KEY NOT NULL,
   "model" TEXT NOT NULL,
   "layer" TEXT NOT NULL,
   "seed" INTEGER NOT NULL,
   "status" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "finished" REAL,
   "command" TEXT,
   "settings" TEXT,
   "fingerprints" TEXT,
   "versions" TEXT,
   "error" TEXT
, "vocabulary" TEXT, "forked_from" TEXT, "forked_unit" INTEGER, "forked_step" INTEGER);
INSERT INTO "runs" VALUES('model-head-1','scripted:model','head',0,'finished',1.79600719336277937884e+09,1.79600720294127225878e+09,'','{"seed": 0, "iterations": 3, "summary": true, "images": 2, "top": 2, "random": 2, "random_pool": 0, "patience": 0, "max_iterations": null, "restarts": 0, "scorer": "mean", "modifiers": "per-image", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "llm": "langchain:house_chat.Chat", "context": 4096, "reply_tokens": 512, "timeout": 300.0, "think": "auto", "langchain": {"model": "house-1", "base_url": "http://node17:8000/v1", "timeout": 30.0, "api_key": "(left out)"}, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.1, "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0, "retries": 3, "retry_temperature_step": 0.2, "duplicates": "refuse", "forbidden": "off-board", "hints": 12, "generator": "sdxl", "diffusion": {"steps": null, "guidance": null, "size": null, "dtype": null, "revision": null, "lora": [], "scheduler": null, "offload": "none", "vae_slicing": null, "vae_tiling": false, "compile": false, "channels_last": null, "batch": null}, "threshold": null, "control_seed": null, "init": "control", "vocabulary": null, "control": "bank", "control_images": null, "class_names": null, "image_range": null, "vocabulary_share": 0.3333333333333333, "exclude": [], "exclude_for": {}, "weights": null, "pool": "auto", "layout": [], "precision": "float32", "channels_last": false, "device": "auto", "batch_size": null, "download": false, "max_concurrent_units": 1, "llm_parallel": 1, "batch_timeout": 0.05, "max_consecutive_failures": 1, "revisit": false, "label_dead": false}','{"target": "scripted target", "generator": "scripted generator", "language_model": "langchain:house_chat.Chat version=none arguments=12443e57d4364741", "control": "scripted control"}','{"line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "timm": "1.0.31", "diffusers": "0.42.1", "langchain-ollama": "1.1.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}','','["class a", "class b", "class c", "class d", "class e", "class f"]',NULL,NULL,NULL);
INSERT INTO "runs" VALUES('model-head-2','scripted:model','head',0,'interrupted',1.79600720296057534222e+09,NULL,'','{"seed": 0, "iterations": 3, "summary": true, "images": 2, "top": 2, "random": 2, "random_pool": 0, "patience": 0, "max_iterations": null, "restarts": 0, "scorer": "mean", "modifiers": "per-image", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "llm": "langchain:house_chat.Chat", "context": 4096, "reply_tokens": 512, "timeout": 300.0, "think": "auto", "langchain": {"model": "house-1", "base_url": "http://node17:8000/v1", "timeout": 30.0, "api_key": "(left out)"}, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.1, "repeat_last_n": 64, "presence_penalty": 0.0, "frequency_penalty": 0.0, "retries": 3, "retry_temperature_step": 0.2, "duplicates": "refuse", "forbidden": "off-board", "hints": 12, "generator": "sdxl", "diffusion": {"steps": null, "guidance": null, "size": null, "dtype": null, "revision": null, "lora": [], "scheduler": null, "offload": "none", "vae_slicing": null, "vae_tiling": false, "compile": false, "channels_last": null, "batch": null}, "threshold": null, "control_seed": null, "init": "control", "vocabulary": null, "control": "bank", "control_images": null, "class_names": null, "image_range": null, "vocabulary_share": 0.3333333333333333, "exclude": [], "exclude_for": {}, "weights": null, "pool": "auto", "layout": [], "precision": "float32", "channels_last": false, "device": "auto", "batch_size": null, "download": false, "max_concurrent_units": 1, "llm_parallel": 1, "batch_timeout": 0.05, "max_consecutive_failures": 1, "revisit": false, "label_dead": false}','{"target": "scripted target", "generator": "scripted generator", "language_model": "langchain:house_chat.Chat version=none arguments=12443e57d4364741", "control": "scripted control"}','{"line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "timm": "1.0.31", "diffusers": "0.42.1", "langchain-ollama": "1.1.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}','','["class a", "class b", "class c", "class d", "class e", "class f"]',NULL,NULL,NULL);
CREATE TABLE "steps" (
   "run" TEXT REFERENCES "runs"("id"),
   "unit" INTEGER,
   "step" INTEGER,
   "attempt" INTEGER,
   "kind" TEXT NOT NULL,
   "outcome" TEXT NOT NULL,
   "concept" TEXT,
   "score" REAL,
   "reasoning" TEXT,
   "reply" TEXT,
   "origin" TEXT,
   "images" TEXT,
   "board" TEXT,
   "removed" TEXT,
   "seed" INTEGER,
   "temperature" REAL,
   "seconds" REAL,
   "detail" TEXT,
   "created" REAL, "model" TEXT, "prompt" TEXT,
   PRIMARY KEY ("run", "unit", "step", "attempt")
);
INSERT INTO "steps" VALUES('model-head-1',0,0,0,'initial','scored','class e',9.90999996662139892578e-01,'','','predefined','["3ace086df1655135cc38f0617683c23ccc98d9c1e21fbfd38e9bab45ba3791a7", "62ba820d2685b676c7b73cd2bc022369ff6c90ef2e782ae35a86e5fc149e5882"]','[["class e", 0.9909999966621399], ["class d", 0.46399998664855957], ["class f", 0.22300000488758087], ["class a", 0.017000000923871994]]',NULL,NULL,NULL,NULL,NULL,1.79600720115162134173e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-1',0,0,1,'initial','scored','class d',4.63999986648559570312e-01,'','','predefined','["7c01d0c2f2f92d036d7ffbe7ebd48c3af34f12b8cbb6eeb5aea65469d53363b1", "9ad66f839c4288d5b20cf545195290cb8aac070b62dd50229cdb865bbee53dba"]','[["class e", 0.9909999966621399], ["class d", 0.46399998664855957], ["class f", 0.22300000488758087], ["class a", 0.017000000923871994]]',NULL,NULL,NULL,NULL,NULL,1.79600720115166211134e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-1',0,0,2,'initial','scored','class f',2.23000004887580871582e-01,'','','predefined','["627f580856b44b339e904bc7555ce5d98e668236ae42fe64d82b359ba7a22fec", "06d2955e242ed554bb321832aa97146cf2163b8cfbd306db41e70934cb03f50e"]','[["class e", 0.9909999966621399], ["class d", 0.46399998664855957], ["class f", 0.22300000488758087], ["class a", 0.017000000923871994]]',NULL,NULL,NULL,NULL,NULL,1.79600720115169715882e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-1',0,0,3,'initial','scored','class a',1.70000009238719940185e-02,'','','predefined','["d0f617c8f0b1c07de6e3e86a114863194130cb69c4e1d5cd0a197ad4510d6bc1", "8bc4bf1ee5767c56eee64927f05a38cfd46ee2b1fe93dfa8dc29d4757274e4d8"]','[["class e", 0.9909999966621399], ["class d", 0.46399998664855957], ["class f", 0.22300000488758087], ["class a", 0.017000000923871994]]',NULL,NULL,NULL,NULL,NULL,1.79600720115173149104e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-1',0,1,0,'iteration','scored','thing dc5c06',9.57000017166137695312e-01,'as ever','{"reasoning": "as ever", "concept": "thing dc5c06"}','proposed','["003c97eea9aa48f7220af09e8868e9ab4fca2e1570395e70c3289c8584d87247", "ea435f351486022e289dd102d74fe8eb0d00587f00ebc5d21ee4b75cd96f3d53"]','[["class e", 0.9909999966621399], ["thing dc5c06", 0.9570000171661377], ["class d", 0.46399998664855957], ["class f", 0.22300000488758087]]','class a',1162817401,0.5,1.50203197700102464295e+00,NULL,1.79600720271926593777e+09,'langchain:house_chat.Chat version=none arguments=12443e57d4364741','21dcdd32bd4a035a4b5bc66f68a8edca');
INSERT INTO "steps" VALUES('model-head-1',0,2,0,'iteration','scored','thing 1199c1',6.07999980449676513671e-01,'as ever','{"reasoning": "as ever", "concept": "thing 1199c1"}','proposed','["14e4d71674cef98812effbeef362f56491594132850f75d6dcbbbb56ceb62505", "84945bf314ee31c0b21219779af7ffda772ddbdc5caa793ace1729777aa00514"]','[["class e", 0.9909999966621399], ["thing dc5c06", 0.9570000171661377], ["thing 1199c1", 0.6079999804496765], ["class d", 0.46399998664855957]]','class f',1804893969,0.5,1.15560670019476674497e-02,NULL,1.79600720278519344333e+09,'langchain:house_chat.Chat version=none arguments=12443e57d4364741','699f0160e31d842842d42519c8e84b9a');
INSERT INTO "steps" VALUES('model-head-1',0,3,0,'iteration','scored','thing 785058',7.87000000476837158203e-01,'as ever','{"reasoning": "as ever", "concept": "thing 785058"}','proposed','["481d3f1b9a316a5dfc3a703af926b022fa5b4154642fa2b70910408ca3ee384d", "34d9af990bb0e10315e85bb43fe42a7a1608839e66948e6911b60e39e6fdeda0"]','[["class e", 0.9909999966621399], ["thing dc5c06", 0.9570000171661377], ["thing 785058", 0.7870000004768372], ["thing 1199c1", 0.6079999804496765]]','class d',1927875731,0.5,1.28445299997110851109e-02,NULL,1.79600720284944224362e+09,'langchain:house_chat.Chat version=none arguments=12443e57d4364741','270a82b538893ada38b01825f5468a27');
INSERT INTO "steps" VALUES('model-head-1',0,4,0,'summary','scored','thing 7b2673',4.95999991893768310546e-01,'as ever','{"reasoning": "as ever", "concept": "thing 7b2673"}','summary','["d94e74dab92ed3ebada7c219f7ce6114f457c4a20333898587e6179d6035af77", "28cb056ba4dc9ffab476cb48e448b38ac240dafce222ee4780336dab68ee1264"]','[["class e", 0.9909999966621399], ["thing dc5c06", 0.9570000171661377], ["thing 1199c1", 0.6079999804496765], ["thing 7b2673", 0.4959999918937683]]','thing 785058',429784277,0.5,0.00531543800025247,NULL,1.79600720291162514689e+09,'langchain:house_chat.Chat version=none arguments=12443e57d4364741','ba08bed1bbf21eb96d504ec2c4de685f');
INSERT INTO "steps" VALUES('model-head-2',1,0,0,'initial','scored','class e',1.99100005626678466796e+00,'','','predefined','["3ace086df1655135cc38f0617683c23ccc98d9c1e21fbfd38e9bab45ba3791a7", "62ba820d2685b676c7b73cd2bc022369ff6c90ef2e782ae35a86e5fc149e5882"]','[["class e", 1.9910000562667847], ["class d", 1.4639999866485596], ["class f", 1.2230000495910645], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,NULL,1.79600720321747922897e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-2',1,0,1,'initial','scored','class d',1.46399998664855957031e+00,'','','predefined','["7c01d0c2f2f92d036d7ffbe7ebd48c3af34f12b8cbb6eeb5aea65469d53363b1", "9ad66f839c4288d5b20cf545195290cb8aac070b62dd50229cdb865bbee53dba"]','[["class e", 1.9910000562667847], ["class d", 1.4639999866485596], ["class f", 1.2230000495910645], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,NULL,1.7960072032175166607e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-2',1,0,2,'initial','scored','class a',1.01699995994567871093e+00,'','','predefined','["d0f617c8f0b1c07de6e3e86a114863194130cb69c4e1d5cd0a197ad4510d6bc1", "8bc4bf1ee5767c56eee64927f05a38cfd46ee2b1fe93dfa8dc29d4757274e4d8"]','[["class e", 1.9910000562667847], ["class d", 1.4639999866485596], ["class f", 1.2230000495910645], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,NULL,1.79600720321754908559e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-2',1,0,3,'initial','scored','class f',1.22300004959106445312e+00,'','','predefined','["627f580856b44b339e904bc7555ce5d98e668236ae42fe64d82b359ba7a22fec", "06d2955e242ed554bb321832aa97146cf2163b8cfbd306db41e70934cb03f50e"]','[["class e", 1.9910000562667847], ["class d", 1.4639999866485596], ["class f", 1.2230000495910645], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,NULL,1.79600720321758198735e+09,NULL,NULL);
INSERT INTO "steps" VALUES('model-head-2',1,1,0,'iteration','scored','thing d8305f',1.4490000009536743164e+00,'as ever','{"reasoning": "as ever", "concept": "thing d8305f"}','proposed','["4bc4dd8d87bca4b438890049be6c3be26124387db505ff9c8941d1e6265da559", "832f1c80de59db391cea80335d4b5dedb2f628e75755e842470a958684cddf70"]','[["class e", 1.9910000562667847], ["class d", 1.4639999866485596], ["thing d8305f", 1.4490000009536743], ["class f", 1.2230000495910645]]','class a',846502400,0.5,1.10488799982704222202e-02,NULL,1.79600720331977057458e+09,'langchain:house_chat.Chat version=none arguments=12443e57d4364741','b70c25f7385455dd5699e82aadfc0fa4');
INSERT INTO "steps" VALUES('model-head-2',1,2,0,'iteration','scored','thing 02eb18',1.79999995231628417968e+00,'as ever','{"reasoning": "as ever", "concept": "thing 02eb18"}','proposed','["39b9ff721854f52f7b2969018d12ecb49c6d24af3f4e0bfe112ba41152ebdddb", "7fcc138ebf0a9ac47b3b31b6dc8ecfa83ec0b5fa5ab15616515c8c977645ed95"]','[["class e", 1.9910000562667847], ["thing 02eb18", 1.7999999523162842], ["class d", 1.4639999866485596], ["thing d8305f", 1.4490000009536743]]','class f',1033592308,0.5,1.96792210008425172418e-02,NULL,1.79600720337722897525e+09,'langchain:house_chat.Chat version=none arguments=12443e57d4364741','b33d4f404d2d52a55aed39f94b8303af');
CREATE TABLE "units" (
   "run" TEXT REFERENCES "runs"("id"),
   "unit" INTEGER,
   "position" INTEGER NOT NULL,
   "name" TEXT,
   "status" TEXT NOT NULL,
   "label" TEXT,
   "score" REAL,
   "origin" TEXT,
   "label_step" INTEGER,
   "discovered" INTEGER,
   "initial_label" TEXT,
   "initial_score" REAL,
   "auc" REAL,
   "mad" REAL,
   "seconds" REAL,
   "error" TEXT, "images" TEXT, "second_label" TEXT, "second_score" REAL, "steps" INTEGER, "found_by" INTEGER, "found_in" TEXT, "search_label" TEXT, "search_score" REAL, "note" TEXT, "auc_low" REAL, "auc_high" REAL, "density" REAL,
   PRIMARY KEY ("run", "unit")
);
INSERT INTO "units" VALUES('model-head-1',0,0,NULL,'finished','class e',9.90999996662139892578e-01,'predefined',0,0,'class e',9.90999996662139892578e-01,9.16666666666666629659e-01,1.7624446632187766859e+00,9.26729907300250488333e+00,'','["3ace086df1655135cc38f0617683c23ccc98d9c1e21fbfd38e9bab45ba3791a7", "62ba820d2685b676c7b73cd2bc022369ff6c90ef2e782ae35a86e5fc149e5882"]','thing dc5c06',9.57000017166137695312e-01,4,NULL,NULL,'class e',9.90999996662139892578e-01,'',7.53336334621662162547e-01,1.0,1.0);
INSERT INTO "units" VALUES('model-head-2',1,0,NULL,'interrupted',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0.194750672999362,'','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE "wishes" (
   "id" INTEGER PRIMARY KEY,
   "run" TEXT NOT NULL REFERENCES "runs"("id"),
   "unit" INTEGER NOT NULL,
   "kind" TEXT NOT NULL,
   "concept" TEXT NOT NULL,
   "by" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "taken" REAL,
   "step" INTEGER,
   "attempt" INTEGER,
   "node" TEXT,
   "outcome" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX "idx_events_run_id"
    ON "events" ("run", "id");
CREATE INDEX "idx_leases_token"
    ON "leases" ("token");
CREATE INDEX "idx_wishes_run_unit_taken"
    ON "wishes" ("run", "unit", "taken");
CREATE INDEX "steps_outcomes"
    ON "steps" ("run", "unit", "kind", "outcome", "origin");
COMMIT;
